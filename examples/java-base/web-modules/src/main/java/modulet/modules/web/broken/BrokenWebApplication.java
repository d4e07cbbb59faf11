package modulet.modules.web.broken;

import org.springframework.boot.Banner;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.boot.builder.SpringApplicationBuilder;
import org.springframework.context.annotation.Bean;

/** A version that never starts. */
@SpringBootApplication(proxyBeanMethods = false)
public class BrokenWebApplication {
    public static void main(String[] args) {
        new SpringApplicationBuilder(BrokenWebApplication.class).bannerMode(Banner.Mode.OFF).run(args);
    }

    @Bean
    Object broken() {
        throw new IllegalStateException("broken on purpose");
    }
}
