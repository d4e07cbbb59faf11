package modulet.base;

import com.alipay.sofa.ark.api.ArkClient;
import com.alipay.sofa.ark.spi.model.Biz;

/** All modules that this base has, as it says them to people. */
public final class ModuleList {
    private ModuleList() {}

    /** A line for each version of each module: {@code biz1:0.0.2 activated}. */
    public static String text() {
        StringBuilder lines = new StringBuilder();
        for (Biz biz : ArkClient.getBizManagerService().getBizInOrder()) {
            if (biz != ArkClient.getMasterBiz()) {
                lines.append(biz.getIdentity()).append(' ').append(biz.getBizState().getBizState()).append('\n');
            }
        }
        return lines.toString().stripTrailing();
    }
}
