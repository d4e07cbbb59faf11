package modulet.modules.plain;

import modulet.modules.Greeter;
import org.springframework.boot.Banner;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.boot.builder.SpringApplicationBuilder;
import org.springframework.context.annotation.Import;

/** A module: an ordinary Spring Boot application that the base starts and stops in its own JVM. */
@SpringBootApplication(proxyBeanMethods = false)
@Import(Greeter.class)
public class ModuleApplication {
    public static void main(String[] args) {
        new SpringApplicationBuilder(ModuleApplication.class).bannerMode(Banner.Mode.OFF).run(args);
    }
}
